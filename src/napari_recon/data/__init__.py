"""Everything between an array and a training batch."""
