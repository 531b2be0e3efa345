// Prometheus's answers as Grafana's data frames, with units, colours and names as the panel's JSON says.
import {
  applyFieldOverrides,
  createTheme,
  DataFrame,
  Field,
  FieldConfigOptionsRegistry,
  FieldType,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

export const theme = createTheme({ colors: { mode: 'dark' } });

export interface Series {
  metric: Record<string, string>;
  value?: [number, string];
  values?: Array<[number, string]>;
}

export interface Given {
  dashboard: any;
  values: Record<string, string>;
  answers: Record<string, Record<string, Series[]>>;
  marks: Array<{ mark: any; series: Series[] }>;
  start: number;
  end: number;
  step: number;
}

// Which properties an override may set, and where they are kept.
const registry = new FieldConfigOptionsRegistry(() =>
  ['unit', 'decimals', 'min', 'max', 'color', 'mappings', 'noValue', 'displayName', 'thresholds']
    .map((path) => ({ path, isCustom: false }))
    .concat(['cellOptions', 'lineStyle'].map((path) => ({ path, isCustom: true })))
    .map(({ path, isCustom }) => ({
      id: isCustom ? `custom.${path}` : path,
      path,
      isCustom,
      name: path,
      process: (value: any) => value,
      shouldApply: () => true,
      override: (() => null) as any,
      editor: (() => null) as any,
      settings: {},
    }))
);

// One of them is there by two names, which the registry refuses.
function byId(all: any[]): any[] {
  return [...new Map(all.map((one) => [one.id, one])).values()];
}

standardTransformersRegistry.setInit(() =>
  byId(Object.values(standardTransformers)).map((transformation: any) => ({
    id: transformation.id,
    name: transformation.name,
    transformation,
    editor: (() => null) as any,
    imageDark: '',
    imageLight: '',
  }))
);

function number(text: string): number | null {
  const value = text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
  return Number.isFinite(value) ? value : null;
}

function legend(format: string, metric: Record<string, string>): string {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => metric[name] ?? '').trim();
}

// What Grafana takes for a time series where the panel says nothing.
const CUSTOM = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  showPoints: 'auto',
  pointSize: 5,
  barAlignment: 0,
  spanNulls: false,
  axisPlacement: 'auto',
  axisColorMode: 'text',
  axisGridShow: true,
  axisLabel: '',
  scaleDistribution: { type: 'linear' },
  stacking: { mode: 'none', group: 'A' },
  hideFrom: { legend: false, tooltip: false, viz: false },
};

function line(series: Series, target: any, panel: any, given: Given): DataFrame {
  const points = new Map((series.values ?? [series.value!]).map(([at, text]) => [Math.round(at * 1000), number(text)]));
  const times: number[] = [];
  if (series.value) {
    times.push(Math.round(series.value[0] * 1000));
  } else {
    for (let at = given.start; at <= given.end; at += given.step) {
      times.push(Math.round(at));
    }
  }
  const name = legend(target.legendFormat ?? '', series.metric);
  const fields: Field[] = [
    { name: 'Time', type: FieldType.time, values: times, config: { interval: given.step } },
    {
      name: 'Value',
      type: FieldType.number,
      labels: series.metric,
      values: times.map((at) => points.get(at) ?? null),
      config: { displayNameFromDS: name, custom: { ...CUSTOM, ...panel.fieldConfig.defaults.custom } },
    },
  ];
  return { refId: target.refId, name, fields, length: times.length };
}

function rows(all: Series[], target: any, value: string): DataFrame {
  const labels = [...new Set(all.flatMap((series) => Object.keys(series.metric)))];
  const fields: Field[] = [
    { name: 'Time', type: FieldType.time, values: all.map((series) => series.value![0] * 1000), config: {} },
    ...labels.map((name) => ({
      name,
      type: FieldType.string,
      values: all.map((series) => series.metric[name] ?? ''),
      config: {},
    })),
    { name: value, type: FieldType.number, values: all.map((series) => number(series.value![1])), config: {} },
  ];
  return { refId: target.refId, fields, length: all.length };
}

export async function framesOf(panel: any, given: Given): Promise<DataFrame[]> {
  const answers = given.answers[String(panel.id)];
  const isTable = panel.type === 'table';
  let frames: DataFrame[] = panel.targets.flatMap((target: any) => {
    const all = answers[target.refId] ?? [];
    if (isTable) {
      return all.length ? [rows(all, target, panel.targets.length > 1 ? `Value #${target.refId}` : 'Value')] : [];
    }
    return all.map((series) => line(series, target, panel, given));
  });
  if (panel.transformations?.length) {
    frames = await lastValueFrom(transformDataFrame(panel.transformations, frames));
  }
  const color = { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' };
  return applyFieldOverrides({
    data: frames,
    fieldConfig: { defaults: { color, ...panel.fieldConfig.defaults }, overrides: panel.fieldConfig.overrides ?? [] },
    fieldConfigRegistry: registry as any,
    replaceVariables: (text: string) => text,
    theme,
    timeZone: 'utc',
  });
}
