"""What is put before an embedder to make it harder to fool: one file a defense."""
