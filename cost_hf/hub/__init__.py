"""From a finished run to the world: Hub repositories, cards, exports, a demo and an endpoint."""
