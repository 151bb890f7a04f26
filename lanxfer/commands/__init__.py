"""What a peer can ask for: one table for all dialects."""
