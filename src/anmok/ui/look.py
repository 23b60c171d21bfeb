"""How the page looks: system fonts, two colour schemes, a focus that can be seen, and room on a phone."""

from __future__ import annotations

import html
from typing import Any, Final

from gradio.themes import Base

_FONTS: Final = ("system-ui", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", "sans-serif")
_MONO: Final = ("ui-monospace", "SFMono-Regular", "Consolas", "D2Coding", "monospace")

NOTHING: Final = "() => ''"  # JavaScript of an event: its one output is empty from now on

# Remembered in this browser; gradio itself follows the system.
ON_LOAD: Final = """() => {
  const show = (scheme) => document.body.classList.toggle('dark', scheme === 'dark');
  let kept = null;
  try { kept = localStorage.getItem('anmok-scheme'); } catch (error) { /* private windows */ }
  if (kept) show(kept);
  const said = JSON.parse(document.querySelector('.anmok-header')?.dataset.said || '{}');
  // What gradio says in English alone, and what it gets wrong for those who hear the page: a button in a button,
  // and a view that is first in the order.
  const mend = () => {
    document.querySelectorAll('.toast-header[role="button"]').forEach((one) => {
      one.removeAttribute('role');
      one.removeAttribute('tabindex');
    });
    document.querySelectorAll('.toast-title').forEach((one) => {
      const text = one.firstChild;
      const word = text && said[text.nodeValue.trim()];
      if (word && word !== text.nodeValue.trim()) text.nodeValue = `${word} `;
    });
    document.querySelectorAll('.toast-text, .toast-message-text').forEach((one) => {
      const kind = 'Invalid file type';
      const found = /^Invalid file types?: (.*)\\. Only .* allowed\\.$/.exec(one.textContent.trim());
      if (found && said[kind]) one.textContent = said[kind].replace('{0}', () => found[1]);
    });
    document.querySelectorAll('button[aria-label]').forEach((one) => {
      const label = one.getAttribute('aria-label');
      const [number = ''] = label.match(/\\d+(\\.\\d+)?/) || [];
      const word = said[label] || (number && said[label.replace(number, '{0}')]?.replace('{0}', number));
      if (!word) return;
      one.setAttribute('aria-label', word);
      if (one.title) one.title = word;
    });
    document.querySelectorAll('canvas[tabindex="1"]').forEach((one) => { one.tabIndex = 0; });
    document.querySelectorAll('button.icon-button:not([role="group"]):has(button)').forEach((one) => {
      one.setAttribute('role', 'group');
      one.tabIndex = -1;
    });
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true, attributeFilter: ['tabindex'] });
  mend();
  // A tab that is chosen in the menu of the others comes into the row some frames later, and the menu takes the focus
  // with it when it goes.
  const follow = (row, label, tries) => {
    const tab = row.querySelector('[role=tab][aria-selected=true]');
    if (tab && tab.textContent === label) tab.focus({ preventScroll: true });
    else if (tries) requestAnimationFrame(() => follow(row, label, tries - 1));
  };
  const button = document.getElementById('anmok-dark');
  if (button && !button.dataset.ready) {
    button.dataset.ready = '1';
    document.addEventListener('click', ({ target }) => {
      const chosen = target.closest('.overflow-dropdown button');
      if (chosen) follow(chosen.closest('.tab-wrapper'), chosen.textContent, 60);
    }, true);
    button.addEventListener('click', () => {
      const scheme = document.body.classList.contains('dark') ? 'light' : 'dark';
      show(scheme);
      try { localStorage.setItem('anmok-scheme', scheme); } catch (error) { /* private windows */ }
    });
  }
}"""

CSS: Final = """
.gradio-container main { width: 100%; min-width: 0; box-sizing: border-box; max-width: 1280px !important;
  margin: 0 auto !important; padding: 0 16px 32px !important; }
.gradio-container button[role=tab] { font-size: 1rem; color: var(--body-text-color) !important; }
.gradio-container button[role=tab].selected { font-weight: 600; color: var(--link-text-color) !important; }
.anmok-header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px; padding: 12px 0 4px; }
.anmok-header h1 { font-size: 1.35rem !important; margin: 0 !important; }
.anmok-header p { margin: 0 !important; flex: 1 1 16rem; color: var(--body-text-color-subdued); }
.anmok-header nav { display: flex; gap: 4px; align-items: center; }
.anmok-header nav a, .anmok-header nav button { padding: 6px 10px; border-radius: 6px;
  color: var(--body-text-color) !important;
  background: none; border: 1px solid transparent; cursor: pointer; text-decoration: none !important; font-size: 1rem; }
.anmok-header nav a[aria-current] { border-color: var(--border-color-primary); font-weight: 600; }
.anmok-header nav a:hover, .anmok-header nav button:hover { background: var(--background-fill-secondary); }
.gradio-container :focus-visible { outline: 3px solid var(--anmok-focus) !important; outline-offset: 2px; }
.gradio-container { --anmok-focus: #1d4ed8; }
.dark .gradio-container, .gradio-container.dark { --anmok-focus: #93c5fd; }
.anmok-facts { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0; font-size: .9rem; }
.anmok-facts div { display: flex; gap: 6px; } .anmok-facts dt { color: var(--body-text-color-subdued);
  white-space: nowrap; }
.anmok-facts dd { margin: 0; } .anmok-said { margin: 4px 0; font-size: 1.05rem; }
.anmok-examples { align-items: center; gap: 8px !important; } .anmok-examples > * { flex: 0 0 auto !important; }
.anmok-examples p { margin: 0; font-size: .9rem; color: var(--body-text-color-subdued); }
.anmok-table { width: 100%; border-collapse: collapse; font-size: .9rem; border: 0 !important; margin: 4px 0; }
.gradio-container .anmok-table :is(thead, tbody, tr) { border: 0 !important; }
.gradio-container .anmok-table :is(th, td) { text-align: left; padding: 4px 8px; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.anmok-live meter { width: min(100%, 24rem); height: 1.2rem; }
.gradio-container .cm-line span { color: var(--body-text-color) !important; } /* gradio's light colours are too pale */
#clip-track .icon-button:not(:last-of-type) { display: none; } /* gradio cuts clips by a program from elsewhere */
#chat-sounds :is(time, .controls span) { color: var(--body-text-color) !important; } /* too pale as well */
#chat-seen:not(:has(img, video)), #chat-nano:has(.nano[hidden]), #climb-why:not(:has(p)),
#label-why:not(:has(p)) { display: none; } /* no gap where nothing is */
.anmok-why { border-left: 4px solid #b91c1c; padding-left: 10px; }
#search-gallery .grid-wrap { height: auto !important; max-height: none !important; overflow: visible; }
#search-gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(min(150px, 44%), 1fr)) !important; }
#search-gallery .caption-label { left: 0; right: 0; bottom: 0; max-width: 100%; white-space: normal; text-align: left;
  overflow-wrap: anywhere; line-height: 1.3; border-radius: 0; }
#search-said progress { width: 100%; height: 10px; accent-color: #1d4ed8; }
.gradio-container input:is([type=radio], [type=checkbox]):checked { background-color: #1d4ed8 !important;
  border-color: #1d4ed8 !important; } /* the theme's own mark is white on white */
html:lang(ko) :is(.gradio-container, .toast-wrap) { word-break: keep-all; overflow-wrap: anywhere; }
footer { display: none !important; }
@media (max-width: 640px) {
  .gradio-container > .main { padding: 8px !important; }
  .gradio-container main { padding: 0 4px 24px !important; }
}
@media (prefers-reduced-motion: reduce) { * { animation-duration: .01ms !important; transition: none !important; } }
"""


def paragraph(text: str, kind: str = "") -> str:
    """What is said in a tab, plain text, as a line of HTML; ``kind`` is a class of its own."""
    return f'<p class="{f"anmok-said {kind}".strip()}">{html.escape(text)}</p>'


def in_sight(elem_id: str) -> str:
    """JavaScript of an event: scrolls as little as shows the part of that id."""
    return f"() => document.getElementById('{elem_id}').scrollIntoView({{ block: 'nearest' }})"


def theme() -> Any:
    """Gradio's base theme in our colours: text and borders that pass WCAG AA on either ground."""
    base = Base(primary_hue="blue", neutral_hue="slate", font=list(_FONTS), font_mono=list(_MONO), radius_size="sm")
    return base.set(
        body_text_color_subdued="#475569",
        body_text_color_subdued_dark="#cbd5e1",
        block_label_text_color="#334155",
        block_label_text_color_dark="#e2e8f0",
        block_info_text_color="#475569",
        block_info_text_color_dark="#cbd5e1",
        input_placeholder_color="#64748b",
        input_placeholder_color_dark="#94a3b8",
        button_primary_background_fill="#1d4ed8",
        button_primary_background_fill_hover="#1e40af",
        button_primary_background_fill_dark="#1d4ed8",
        button_primary_text_color="#ffffff",
        link_text_color="#1d4ed8",
        link_text_color_dark="#93c5fd",
    )
