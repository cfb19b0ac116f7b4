"""What every report page must be, checked with the standard library's parser."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "footer", "h1", "h2", "h3", "p",
    "div", "b", "span", "ul", "li", "pre", "code", "table", "thead", "tbody", "tr", "th",
    "td", "figure", "figcaption", "img", "svg", "line", "polyline", "circle", "rect", "text",
    "a", "details", "summary",
}  # fmt: skip


class Page(HTMLParser):
    """The elements of a page; an element that is not closed in order is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def text(self):
        """All that a reader reads."""
        return " ".join(data for _, data in self.texts)


def check_page(text):
    """Return a page that is well formed, needs no network and runs nothing."""
    assert text.startswith("<!doctype html>\n")
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            value = attributes.get(name, "")
            if tag == "img":
                assert re.match(r"data:image/(png|webp);base64,[A-Za-z0-9+/=]+$", attributes["src"])
                assert attributes["alt"]
            elif tag == "a":
                assert not re.match(r"\s*[a-z]+:|//", value, re.IGNORECASE), value
            else:
                assert not value, (tag, name)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    assert ("meta", {"charset": "utf-8"}) in page.elements
    policy = [a["content"] for t, a in page.elements if a.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    return page
