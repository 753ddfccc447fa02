// Draws the dashboard that the address names: ?dashboard=FILE&prometheus=URL&minutes=N, and &instance=NAME to choose one guard. When
// all panels are drawn, `window.drawn` tells the page's height and each panel's state.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { ThemeContext, createTheme, dateTime } from '@grafana/data';
import { ErrorBoundary, GlobalStyles, PanelChrome } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

import { Content, prepared } from './panels.jsx';
import { annotationTimes, panelData, scrapeInterval, variableValues } from './prometheus.js';

const WIDTH = 1600;
const MARGIN = 8;
const CELL = 30;
const HEAD = 48;
const theme = createTheme({ colors: { mode: 'dark' } });

/** A box of the grid, in pixels, as Grafana places it. */
function box({ x, y, w, h }) {
  const column = (WIDTH - 2 * MARGIN - 23 * MARGIN) / 24;
  return {
    left: MARGIN + x * (column + MARGIN),
    top: HEAD + y * (CELL + MARGIN),
    width: w * column + (w - 1) * MARGIN,
    height: h * CELL + (h - 1) * MARGIN,
  };
}

/** All panels, each repeated row with those below it once for each value of its variable. */
function expanded(panels, values) {
  const sections = [];
  for (const panel of panels) {
    if (panel.type === 'row' || sections.length === 0) {
      sections.push([]);
    }
    sections.at(-1).push(panel);
  }
  const out = [];
  let shift = 0;
  for (const section of sections) {
    const name = section[0].repeat;
    const bottom = Math.max(...section.map((panel) => panel.gridPos.y + panel.gridPos.h));
    const height = bottom - section[0].gridPos.y;
    const copies = name ? values[name].map((value) => ({ [name]: value })) : [{}];
    copies.forEach((chosen, copy) => {
      for (const panel of section) {
        const gridPos = { ...panel.gridPos, y: panel.gridPos.y + shift + copy * height };
        out.push({ ...panel, gridPos, chosen, key: `${panel.id}-${copy}` });
      }
    });
    shift += (copies.length - 1) * height;
  }
  return out;
}

async function load() {
  const asked = new URLSearchParams(location.search);
  const base = asked.get('prometheus');
  const dashboard = await (await fetch(`/dashboards/${asked.get('dashboard')}`)).json();
  const to = Math.floor(Date.now() / 1000);
  const range = { from: to - Number(asked.get('minutes')) * 60, to };
  const variables = dashboard.templating.list;
  const scrape = await scrapeInterval(base);
  const chosen = asked.has('instance') ? { instance: asked.get('instance') } : {};
  const values = await variableValues(base, variables, range, chosen);
  const marks = [];
  for (const annotation of dashboard.annotations.list) {
    const times = await annotationTimes(base, annotation, { range, variables, chosen, scrape });
    marks.push(...times.map((at) => ({ at, color: theme.visualization.getColorByName(annotation.iconColor) })));
  }
  const panels = [];
  for (const panel of expanded(dashboard.panels, values)) {
    const place = box(panel.gridPos);
    const title = panel.title.replace(/\$(\w+)/g, (whole, name) => panel.chosen[name] ?? whole);
    if (panel.type === 'row') {
      panels.push({ panel, place, title });
      continue;
    }
    const context = { variables, chosen: { ...chosen, ...panel.chosen }, range, width: Math.floor(place.width), scrape };
    try {
      const { frames, empty } = await panelData(base, panel, context);
      const why = empty.length ? `no data: ${empty.join('; ')}` : '';
      const ready = empty.length < panel.targets.length ? await prepared(panel, frames, theme) : null;
      panels.push({ panel, place, title, why, state: why ? 'empty' : 'ok', frames: ready });
    } catch (error) {
      panels.push({ panel, place, title, state: 'error', why: String(error) });
    }
  }
  const heads = Object.entries(values).map(([name, found]) => {
    const label = variables.find((one) => one.name === name).label;
    return { label, text: chosen[name] ?? `All (${found.length})` };
  });
  const times = { from: dateTime(range.from * 1000), to: dateTime(range.to * 1000) };
  return { dashboard, panels, heads, marks, range: { ...times, raw: times } };
}

function Panel({ one, range, marks }) {
  const { panel, place, title, frames, state, why } = one;
  return (
    <div data-key={panel.key} data-state={state} data-title={title} data-why={why} style={{ position: 'absolute', ...place }}>
      <PanelChrome title={title} description={panel.description} width={place.width} height={place.height} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(width, height) => (
          <ErrorBoundary>
            {({ error }) =>
              error || !frames ? (
                <div data-failed={String(error ?? '')}>{why}</div>
              ) : (
                <Content panel={panel} frames={frames} width={width} height={height} range={range} marks={marks} />
              )
            }
          </ErrorBoundary>
        )}
      </PanelChrome>
    </div>
  );
}

function Page() {
  const [loaded, setLoaded] = useState(null);
  useEffect(() => {
    load().then(setLoaded, (error) => {
      window.drawn = { height: 100, panels: [{ title: 'the whole dashboard', state: 'error', why: String(error.stack) }] };
    });
  }, []);
  useEffect(() => {
    if (loaded) {
      const bottom = Math.max(...loaded.panels.map(({ place }) => place.top + place.height));
      const panels = loaded.panels.filter((one) => one.state).map(({ panel, title, state, why }) => ({ key: panel.key, title, state, why }));
      // Charts paint after a frame or two, icons and fonts when they have come.
      document.fonts.ready.then(() => setTimeout(() => (window.drawn = { height: bottom + MARGIN, panels }), 1500));
    }
  }, [loaded]);
  if (!loaded) {
    return null;
  }
  const { dashboard, panels, heads, marks, range } = loaded;
  const muted = { color: theme.colors.text.secondary };
  return (
    <div style={{ position: 'relative', width: WIDTH }}>
      <div style={{ display: 'flex', gap: 20, padding: '12px 16px', alignItems: 'baseline' }}>
        <span style={{ fontSize: 18, fontWeight: 500 }}>{dashboard.title}</span>
        {heads.map(({ label, text }) => (
          <span key={label}>
            <span style={muted}>{label}</span> {text}
          </span>
        ))}
      </div>
      {panels.map((one) =>
        one.panel.type === 'row' ? (
          <div key={one.panel.key} style={{ position: 'absolute', ...one.place, fontSize: 16, fontWeight: 500, padding: '4px 8px' }}>
            {one.title}
          </div>
        ) : (
          <Panel key={one.panel.key} one={one} range={range} marks={marks} />
        )
      )}
    </div>
  );
}

createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <Page />
  </ThemeContext.Provider>
);
