"""What a person does with single instruments: find them, test them, look through one, show a pattern on one."""
