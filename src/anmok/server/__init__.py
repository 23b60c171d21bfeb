"""Over a wire: one server over the engine that speaks everybody's dialect."""
