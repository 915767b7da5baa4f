"""Reading data set repositories of the Hugging Face Hub, in a process of its own.

Only the modules that this process starts from (``child``) import ``datasets`` and ``huggingface_hub``; the
service imports ``messages`` and ``process``.
"""
