"""What messages show of partners, and what follows for a rotation: their own messages, and answers to test messages."""
