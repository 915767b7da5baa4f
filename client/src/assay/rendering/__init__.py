"""What the command line prints: tables and lines made of the API's documents."""
