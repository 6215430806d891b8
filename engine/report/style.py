"""How a run's page looks, by day and by night."""

#: Colours that people with colour blindness can tell apart (Okabe and Ito, 2008): dark enough on white, and
#: light enough on black.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#000000")
DARK = ("#56b4e9", "#e69f00", "#2fc49b", "#e6a3c7", "#f0e442", "#ffffff")


def _variables(colours: tuple[str, ...], **others: str) -> str:
    named = {f"line{place}": colour for place, colour in enumerate(colours)} | others
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())


_DAY = _variables(LIGHT, text="#222", paper="#fff", note="#666", grid="#ddd", tile="#f5f5f5",
                  good="#007a5a", fair="#8a6d00", bad="#b3261e")  # fmt: skip
_NIGHT = _variables(DARK, text="#e6e6e6", paper="#16181b", note="#a0a0a0", grid="#3a3d42", tile="#22252a",
                    good="#4cc9a0", fair="#e0c14c", bad="#ff8a80")  # fmt: skip

_LINES = " ".join(
    f".line{place} {{ stroke: var(--line{place}); background: var(--line{place}) }}"
    for place in range(len(LIGHT))
)

STYLE = f"""
:root {{ color-scheme: light dark; {_DAY} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_NIGHT} }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper); max-width: 960px;
  margin: 2em auto; padding: 0 1em }}
h1 {{ font-size: 1.4em; overflow-wrap: anywhere }} h2 {{ font-size: 1.1em; margin: 2em 0 .3em }}
table {{ border-collapse: collapse }} td, th {{ padding: .2em .9em .2em 0; text-align: right }}
td:first-child, th:first-child, td.words, th.words {{ text-align: left }}
tr {{ border-bottom: 1px solid var(--grid) }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: .8em }}
.tile {{ background: var(--tile); border-radius: 8px; padding: .8em 1em; overflow-wrap: anywhere }}
.tile b {{ font-size: 1.5em; display: block; line-height: 1.2 }} .tile p {{ margin: .3em 0 0 }}
.good b {{ color: var(--good) }} .fair b {{ color: var(--fair) }} .bad b {{ color: var(--bad) }}
dl {{ display: grid; grid-template-columns: auto 1fr; gap: 0 .6em; margin: .4em 0 0; font-size: .87em }}
dt {{ text-align: right }} dd {{ margin: 0; color: var(--note) }}
svg {{ width: 100%; height: auto; fill: var(--note); font-size: 12px }}
.grid {{ stroke: var(--grid) }} polyline {{ fill: none; stroke-width: 1.8 }}
{_LINES}
.at rect {{ fill: transparent }} .at line {{ stroke: var(--note) }} .at text {{ fill: var(--text) }}
.at line, .at text {{ visibility: hidden }} .at:hover line, .at:hover text {{ visibility: visible }}
.legend span {{ margin-right: 1.2em }} .legend i {{ display: inline-block; width: 1em; height: .7em;
  margin-right: .4em }} .advice {{ font-size: 1.15em }} .big {{ font-size: 2em; font-weight: 600 }}
.note {{ color: var(--note) }}
"""
