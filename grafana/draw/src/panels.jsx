// Panels by Grafana's own components. What Grafana's panel plugins add to those is written out here as far as the dashboards
// use it; the state timeline is no component of @grafana/ui, so its bars are drawn here, with Grafana's texts and colours.
import {
  EventBusSrv,
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  dateTimeFormat,
  getFieldDisplayName,
  getFieldDisplayValues,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { BigValue, PanelContextProvider, TimeSeries, useTheme2 } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

// One of them is listed twice, under its old name too.
const TRANSFORMATIONS = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));

standardTransformersRegistry.setInit(() =>
  [...TRANSFORMATIONS.values()].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
    editor: () => null,
  }))
);

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'thresholds', 'mappings', 'color', 'links'];

function option(path, isCustom) {
  return {
    id: isCustom ? `custom.${path}` : path,
    path,
    isCustom,
    name: path,
    editor: () => null,
    override: () => null,
    process: (value) => value,
    shouldApply: () => true,
  };
}

function optionsOf(fieldConfig) {
  const overridden = fieldConfig.overrides.flatMap((one) => one.properties.map((property) => property.id));
  const custom = overridden.filter((id) => id.startsWith('custom.')).map((id) => id.slice('custom.'.length));
  const names = new Set([...Object.keys(fieldConfig.defaults.custom ?? {}), ...custom]);
  return new FieldConfigOptionsRegistry(() => [
    ...STANDARD.map((path) => option(path, false)),
    ...[...names].map((path) => option(path, true)),
  ]);
}

/** The frames of a panel, transformed, and with units, colours, texts and overrides on every field. */
export async function prepared(panel, frames, theme) {
  const transformed = await new Promise((done, fail) =>
    transformDataFrame(panel.transformations ?? [], frames).subscribe({ next: done, error: fail })
  );
  const ready = applyFieldOverrides(
    {
      data: transformed,
      fieldConfig: panel.fieldConfig,
      fieldConfigRegistry: optionsOf(panel.fieldConfig),
      replaceVariables: (text) => text,
      theme,
      timeZone: 'browser',
    },
    transformed
  );
  cacheFieldDisplayNames(ready);
  return ready;
}

/** What is inside the frame of a panel. */
export function Content({ panel, frames, width, height, range, marks }) {
  const theme = useTheme2();
  const drawing = { panel, frames, width, height, range, theme, marks };
  switch (panel.type) {
    case 'stat':
      return <Stat {...drawing} />;
    case 'timeseries':
      return <Graph {...drawing} />;
    case 'table':
      return <Rows {...drawing} />;
    case 'state-timeline':
      return <Timeline {...drawing} />;
    default:
      throw new Error(`no component for a panel of type ${panel.type}`);
  }
}

function Stat({ panel, frames, width, height, theme }) {
  const values = getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'browser',
  });
  return (
    <div style={{ display: 'flex' }}>
      {values.map((value) => (
        <BigValue
          key={value.display.title}
          value={value.display}
          width={width / values.length}
          height={height}
          theme={theme}
          colorMode={panel.options.colorMode}
          graphMode={panel.options.graphMode}
          justifyMode={panel.options.justifyMode}
          textMode={panel.options.textMode}
        />
      ))}
    </div>
  );
}

function Graph({ panel, frames, width, height, range, marks }) {
  return (
    <PanelContextProvider value={{ eventsScope: 'global', eventBus: new EventBusSrv() }}>
      <TimeSeries
        frames={frames}
        width={width}
        height={height}
        timeRange={range}
        timeZone="browser"
        legend={panel.options.legend}
        options={panel.options}
      >
        {(builder) => {
          builder.addHook('drawClear', (plot) => drawMarks(plot, marks));
          return null;
        }}
      </TimeSeries>
    </PanelContextProvider>
  );
}

/** Annotations: a dashed line at each time. */
function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.setLineDash([4, 4]);
  ctx.globalAlpha = 0.5;
  for (const { at, color } of marks) {
    const x = plot.valToPos(at, 'x', true);
    if (x >= bbox.left && x <= bbox.left + bbox.width) {
      ctx.strokeStyle = color;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
  }
  ctx.restore();
}

function Rows({ panel, frames, width, height }) {
  return (
    <TableNG
      data={frames[0]}
      width={width}
      height={height}
      cellHeight={panel.options.cellHeight}
      noHeader={!panel.options.showHeader}
      sortBy={panel.options.sortBy}
      fieldConfig={panel.fieldConfig}
      structureRev={1}
    />
  );
}

function spans(field, times, step) {
  const out = [];
  field.values.forEach((value, index) => {
    const last = out.at(-1);
    const at = times[index];
    if (last && last.value === value && at - last.end <= step * 2) {
      last.end = at + step;
    } else {
      out.push({ value, start: at, end: at + step });
    }
  });
  return out;
}

function Timeline({ frames, width, height, range, theme }) {
  const from = range.from.valueOf();
  const span = range.to.valueOf() - from;
  const lines = frames.map((frame) => {
    const times = frame.fields.find((field) => field.type === FieldType.time);
    const field = frame.fields.find((one) => one.type === FieldType.number);
    return { name: getFieldDisplayName(field, frame, frames), field, spans: spans(field, times.values, times.config.interval) };
  });
  const label = Math.min(180, 10 + 7 * Math.max(...lines.map((line) => line.name.length)));
  const inner = width - label - 10;
  const place = (at) => label + (Math.max(0, Math.min(span, at - from)) / span) * inner;
  const axis = 44;
  const line = Math.min(60, (height - axis) / lines.length);
  const shown = new Map(lines.flatMap((one) => one.spans.map(({ value }) => [value, one.field.display(value)])));
  const text = { position: 'absolute', whiteSpace: 'nowrap', overflow: 'hidden', fontSize: 12, color: theme.colors.text.primary };
  return (
    <div style={{ position: 'relative', width, height }}>
      {lines.map((one, index) => (
        <div key={one.name}>
          <div style={{ ...text, top: index * line + line / 2 - 9, width: label - 8, textAlign: 'right' }}>{one.name}</div>
          {one.spans.map((bar) => {
            const display = shown.get(bar.value);
            const [left, right] = [place(bar.start), place(bar.end)];
            return (
              <div
                key={bar.start}
                style={{
                  ...text,
                  left,
                  width: Math.max(1, right - left),
                  top: index * line + line * 0.1,
                  height: line * 0.8,
                  textIndent: 6,
                  lineHeight: `${line * 0.8}px`,
                  background: display.color,
                  opacity: 0.9,
                  color: theme.colors.getContrastText(display.color),
                }}
              >
                {right - left > 70 ? display.text : ''}
              </div>
            );
          })}
        </div>
      ))}
      {[0, 1, 2, 3, 4].map((part) => (
        <div key={part} style={{ ...text, left: label + (part / 4.4) * inner, top: height - axis + 4, opacity: 0.8 }}>
          {dateTimeFormat(from + (part / 4.4) * span, { format: 'HH:mm' })}
        </div>
      ))}
      <div style={{ ...text, top: height - 20, left: 0, display: 'flex', gap: 14 }}>
        {[...shown.values()].map((display) => (
          <span key={display.text}>
            <span style={{ display: 'inline-block', width: 14, height: 4, marginRight: 6, background: display.color, verticalAlign: 'middle' }} />
            {display.text}
          </span>
        ))}
      </div>
    </div>
  );
}
