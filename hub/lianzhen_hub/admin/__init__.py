"""What an admin at the machine may ask and order: ``views`` reads, ``routes`` is the door."""
