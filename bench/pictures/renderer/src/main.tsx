// The page: title and variables in one line, below it the panels at their places in Grafana's grid.
import { DataFrame, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { framesOf, Given, theme } from './frames';
import { Drawn, marksOf } from './panels';

const CELL = 30;
const MARGIN = 8;
const HEAD = 56;

function place(grid: any, width: number) {
  const column = (width - MARGIN) / 24;
  return {
    left: grid.x * column + MARGIN,
    top: HEAD + grid.y * (CELL + MARGIN),
    width: grid.w * column - MARGIN,
    height: grid.h * CELL + (grid.h - 1) * MARGIN,
  };
}

function Head({ given }: { given: Given }) {
  const shown = given.dashboard.templating.list.filter((v: any) => !['datasource', 'runbooks'].includes(v.name));
  const value = (v: any) => (given.values[v.name] === v.allValue ? 'All' : given.values[v.name]);
  return (
    <div style={{ position: 'absolute', left: 16, top: 12, display: 'flex', gap: 12, alignItems: 'center' }}>
      <span style={{ fontSize: 20, fontWeight: 500, marginRight: 12 }}>{given.dashboard.title}</span>
      {shown.map((v: any) => (
        <span key={v.name} style={{ border: `1px solid ${theme.colors.border.medium}`, borderRadius: 2, padding: '4px 8px' }}>
          <span style={{ color: theme.colors.text.secondary }}>{v.label} </span>
          {value(v)}
        </span>
      ))}
      {marksOf(given).map((mark) => (
        <span key={mark.at} style={{ color: mark.color }}>
          ┆ {new Date(mark.at).toISOString().slice(11, 16)} {mark.text}
        </span>
      ))}
    </div>
  );
}

function Page({ given, frames }: { given: Given; frames: Map<number, DataFrame[]> }) {
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Head given={given} />
      {given.dashboard.panels.map((panel: any) => {
        const at = place(panel.gridPos, window.innerWidth);
        const style = { position: 'absolute' as const, ...at };
        if (panel.type === 'row') {
          return (
            <div key={panel.id} style={{ ...style, fontSize: 16, fontWeight: 500, lineHeight: `${CELL}px` }}>
              {panel.title}
            </div>
          );
        }
        return (
          <div key={panel.id} style={style}>
            <PanelChrome title={panel.title} width={at.width} height={at.height}>
              {(width: number, height: number) => (
                <Drawn panel={panel} frames={frames.get(panel.id)!} given={given} width={width} height={height} />
              )}
            </PanelChrome>
          </div>
        );
      })}
    </ThemeContext.Provider>
  );
}

async function main() {
  const given: Given = JSON.parse(document.getElementById('given')!.textContent!);
  const frames = new Map<number, DataFrame[]>();
  for (const panel of given.dashboard.panels) {
    if (panel.type !== 'row') {
      frames.set(panel.id, await framesOf(panel, given));
    }
  }
  createRoot(document.getElementById('root')!).render(<Page given={given} frames={frames} />);
}

main().catch((error) => console.error('Uncaught error', String(error), error?.stack));
