"""Power and energy sensors, and how they are sampled."""
