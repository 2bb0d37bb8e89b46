//! AGREES: proposes commands, makes them durable, applies them in order.
