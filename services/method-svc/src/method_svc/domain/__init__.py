"""Methods, templates, what is known of datasets, and the forms made of them; no input or output."""
