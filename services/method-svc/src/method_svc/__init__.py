"""Evaluation methods: templates, versions, previews."""
