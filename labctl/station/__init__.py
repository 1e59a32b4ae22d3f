"""The station file: its tables and defaults, where each value comes from, and the files that come with the suite."""
