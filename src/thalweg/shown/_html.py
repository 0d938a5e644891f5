"""Sections in a notebook: escaped HTML without a script or colours of its own, so that light and dark are the page's.

A picture lies on white, whatever is around it.
"""

import base64
from html import escape

from thalweg.shown._section import Section, Table
from thalweg.shown._words import cell

_LONGEST = 400  # letters of a cell or a sentence
_PIXELS = 96  # to an inch
_PLAIN = "tex2jax_ignore mathjax_ignore"  # dollar signs are no formulas
_CELL = "text-align:left;padding:2px 12px 2px 0;vertical-align:top"


def section_html(section: Section, *, drawn: bool = True) -> str:
    """Give a section as HTML: its title, sentences, figure and tables, of which none is folded away.

    Args:
        section: for any place but the terminal alone.
        drawn: whether its panels are drawn, which takes about a second.
    """
    parts = [f"<b>{_text(section.title)}</b>"] if section.title else []
    if section.sentences:
        parts.append(f"<ul>{''.join(f'<li>{_text(sentence)}.</li>' for sentence in section.sentences)}</ul>")
    parts += [f"<p><small>{_text(section.facts)}.</small></p>"] if section.facts else []
    parts += [_picture(section)] if section.panels and drawn else []
    parts += [_table(table) for table in section.tables if table.rows and not table.folded]
    return f'<div class="{_PLAIN}">{"".join(parts)}</div>'


def _picture(section: Section) -> str:
    from thalweg.shown._matplotlib import files_of

    content = base64.b64encode(files_of(section, formats=("png",))["png"]).decode()
    width = section.size[0] * min(len(section.panels), section.columns) * _PIXELS
    said = _text("; ".join(panel.title for panel in section.panels))
    look = f"width:{width:.0f}px;max-width:100%;background:#fff"
    return f'<img alt="{said}" style="{look}" src="data:image/png;base64,{content}">'


def _table(table: Table) -> str:
    head = "".join(f'<th style="{_CELL}">{_text(name)}</th>' for name in table.columns)
    rows = ("".join(f'<td style="{_CELL}">{_text(cell(value))}</td>' for value in row) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    caption = f'<caption style="text-align:left">{_text(table.title)}</caption>' if table.title else ""
    note = f"<p><small>{_text(table.note)}</small></p>" if table.note else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _text(text: str) -> str:
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
