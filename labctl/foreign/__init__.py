"""Other people's benches: import what they measured, fit it, predict."""
