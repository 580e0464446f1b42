"""Sources of mail history: each is read into rows, and rejects for what could not be used."""
