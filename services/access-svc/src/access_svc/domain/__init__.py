"""What a key is: pure values, no store."""
