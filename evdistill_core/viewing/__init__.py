"""What a person looks at: recordings as videos and sheets of pictures."""
