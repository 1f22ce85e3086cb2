"""What every service shares. A closed list of concerns, one file each; it knows no service."""
