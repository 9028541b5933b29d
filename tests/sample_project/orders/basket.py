"""The basket: copies by book, kept in the session."""


class Basket:
    KEY = "basket"

    def __init__(self, session):
        self.session = session
        self.copies = session.setdefault(self.KEY, {})

    def add(self, slug, copies=1):
        if copies < 1:
            raise ValueError("at least one copy")
        self.copies[slug] = self.copies.get(slug, 0) + copies
        self.session.modified = True

    def remove(self, slug):
        self.copies.pop(slug, None)
        self.session.modified = True

    def clear(self):
        self.copies.clear()
        self.session.modified = True

    def __len__(self):
        return sum(self.copies.values())
