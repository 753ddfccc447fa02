// What Grafana's Prometheus data source does for these dashboards: variables are put in, Prometheus is asked, and its answers
// become data frames.
import { FieldType } from '@grafana/data';

const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };

/** Seconds of a duration such as `1m30s`. */
export function seconds(text) {
  return [...text.matchAll(/(\d+)(ms|s|m|h|d)/g)].reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0);
}

async function ask(base, path, parameters) {
  const answer = await fetch(`${base}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) });
  const body = await answer.json();
  if (body.status !== 'success') {
    throw new Error(body.error);
  }
  return body.data;
}

/** The scrape interval of the first target, which Grafana would be told in the data source. */
export async function scrapeInterval(base) {
  const body = await (await fetch(`${base}/api/v1/targets`)).json();
  return seconds(body.data.activeTargets[0].scrapeInterval);
}

function literal(value) {
  return value.replace(/[.*+?^${}()|[\]\\]/g, '\\\\$&');
}

/** Puts the values of variables in: `chosen` has one value for a variable, where a row is repeated for it. */
export function interpolate(text, variables, chosen, builtin) {
  return text.replace(/\$(\w+)|\$\{(\w+)[^}]*\}/g, (whole, plain, braced) => {
    const name = plain ?? braced;
    if (name in builtin) {
      return builtin[name];
    }
    const variable = variables.find((one) => one.name === name);
    if (!variable) {
      return whole;
    }
    return name in chosen ? literal(chosen[name]) : variable.allValue;
  });
}

/** The values of each variable that is asked of Prometheus. */
export async function variableValues(base, variables, range, chosen) {
  const values = {};
  for (const variable of variables.filter((one) => one.type === 'query')) {
    const [, metric, label] = variable.query.query.match(/^label_values\((.*), (\w+)\)$/);
    const series = await ask(base, 'series', {
      'match[]': interpolate(metric, variables, chosen, {}),
      start: range.from,
      end: range.to,
    });
    values[variable.name] = [...new Set(series.map((one) => one[label]))].sort();
  }
  return values;
}

function legend(format, labels) {
  if (!format) {
    const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
    return pairs.length ? `{${pairs.join(', ')}}` : 'Value';
  }
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '').trim();
}

function seriesFrame(refId, labels, points, name, interval) {
  return {
    refId,
    length: points.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: interval * 1000 }, values: points.map(([at]) => at * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels,
        config: { displayNameFromDS: name },
        values: points.map(([, value]) => number(value)),
      },
    ],
  };
}

function tableFrame(refId, series, valueName) {
  const labels = [...new Set(series.flatMap((one) => Object.keys(one.metric)))].sort();
  const column = (name, type, values) => ({ name, type, config: {}, values });
  return {
    refId,
    length: series.length,
    fields: [
      column('Time', FieldType.time, series.map((one) => one.value[0] * 1000)),
      ...labels.map((label) => column(label, FieldType.string, series.map((one) => one.metric[label]))),
      column(valueName, FieldType.number, series.map((one) => number(one.value[1]))),
    ],
  };
}

function number(text) {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
}

/** Asks what a panel asks. Each of its queries must find something: `empty` names those that do not. */
export async function panelData(base, panel, context) {
  const { variables, chosen, range, width, scrape } = context;
  const span = range.to - range.from;
  // Of a short time range a panel's least interval leaves too little to see.
  const least = Math.min(panel.interval ? seconds(panel.interval) : 0, span / 40);
  const step = Math.ceil(Math.max(span / width, least, scrape));
  const rate = Math.max(step + scrape, 4 * scrape);
  const builtin = { __interval: `${step}s`, __rate_interval: `${rate}s`, __range: `${span}s` };
  const frames = [];
  const empty = [];
  for (const target of panel.targets) {
    const expr = interpolate(target.expr, variables, chosen, builtin);
    const name = (labels) => legend(target.legendFormat, labels);
    let found;
    if (target.instant) {
      const series = (await ask(base, 'query', { query: expr, time: range.to })).result;
      found = series.map((one) => one.value[1]);
      if (target.format === 'table') {
        const several = panel.targets.length > 1;
        frames.push(tableFrame(target.refId, series, several ? `Value #${target.refId}` : 'Value'));
      } else {
        frames.push(...series.map((one) => seriesFrame(target.refId, one.metric, [one.value], name(one.metric), step)));
      }
    } else {
      const from = Math.floor(range.from / step) * step;
      const series = (await ask(base, 'query_range', { query: expr, start: from, end: range.to, step })).result;
      found = series.flatMap((one) => one.values.map(([, value]) => value));
      frames.push(...series.map((one) => seriesFrame(target.refId, one.metric, one.values, name(one.metric), step)));
    }
    if (found.every((value) => value === 'NaN')) {
      empty.push(`${target.refId}: ${expr}`);
    }
  }
  return { frames, empty };
}

/** The times at which an annotation's query finds something, each once. */
export async function annotationTimes(base, annotation, context) {
  const step = Math.max(context.scrape, Math.ceil((context.range.to - context.range.from) / 200));
  const builtin = { __rate_interval: `${Math.max(step + context.scrape, 4 * context.scrape)}s` };
  const query = interpolate(annotation.expr, context.variables, context.chosen, builtin);
  const { from, to } = context.range;
  const series = (await ask(base, 'query_range', { query, start: from, end: to, step })).result;
  const starts = series.flatMap((one) =>
    one.values.filter(([at], index) => index === 0 || at - one.values[index - 1][0] > step).map(([at]) => at * 1000)
  );
  return [...new Set(starts)];
}
