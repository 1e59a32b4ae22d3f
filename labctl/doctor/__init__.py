"""What a person should look at before the bench is used, and when it does not work: read-only, one fix each."""
