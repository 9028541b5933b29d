"""All that passes between machines: typed, frozen, versioned, and signed. Pure: no clock, file, socket, Redis or Celery."""
