"""What makes a night: canaries, control charts, documents for other programs, retention, notification, services."""
