"""Django projects, run as `manage.py test` runs them: unittest under the project's own runner."""
