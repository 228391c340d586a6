"""What a student learns over time, kept in the store: cards and their schedule, plans, chats. No model, no Gradio."""
