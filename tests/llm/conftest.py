from scripted_llm import llm

__all__ = ["llm"]
