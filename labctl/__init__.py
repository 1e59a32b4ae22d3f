"""The lab: what an operator types and what owns a run."""
