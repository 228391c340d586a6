"""The Gradio app: app.py builds it, one file a tab. No tab touches the engine's insides or SQL itself."""
