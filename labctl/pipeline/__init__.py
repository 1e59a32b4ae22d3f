"""The main job, step by step: open the bench, acquire, analyse, validate, export, simulate."""
