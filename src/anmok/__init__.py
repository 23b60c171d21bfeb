"""anmok (안목, "a discerning eye"): image foundation models put to work, measured on your own images."""
