"""What a student keeps: cards and their schedule, mastery, plans, and the ways to take all of it along."""
