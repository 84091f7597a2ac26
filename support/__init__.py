"""Everything a reply passes through. Knows nothing about Gradio and nothing about training."""
