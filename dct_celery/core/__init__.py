"""The pure part: what is decided, never how it is done.

Modules here import no clock, environment, file, socket, thread, randomness, logging, Celery, Redis
or Django. Time, ids and randomness are arguments. Facts go in as events, decisions come out as new
state and effects.
"""
