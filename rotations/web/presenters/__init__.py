"""What pages show of a rotation: values, texts, open tasks and links. Nothing here changes data or reads a request."""
