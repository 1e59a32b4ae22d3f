"""Plans, executes, seals, skips and resumes the steps of nodes; knows no node by name."""
