"""The JUnit report (docs/junit.md).

`cases` decides which case and result each verdict and failed fixture becomes; `document` names them
apart, cleans and cuts their texts, and writes the XML. A red run never becomes a green document:
a test without a verdict is an error (I1, I7).
"""
