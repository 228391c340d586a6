"""What a student can do, without Gradio: each tool takes an Engine and gives dataclasses."""
