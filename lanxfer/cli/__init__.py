"""What a person types; nothing here decides anything that the floors below could."""
