"""What several backends need of one library: imported quietly, opened once, closed last."""
