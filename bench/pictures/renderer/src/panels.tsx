// One panel, drawn by Grafana's components; tables and state timelines by the code below.
import {
  DataFrame,
  dateTime,
  FieldDisplay,
  formattedValueToString,
  getFieldDisplayName,
  getFieldDisplayValues,
  getDisplayValueAlignmentFactors,
  TimeRange,
  VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, UPlotConfigBuilder, VizRepeater } from '@grafana/ui';
import { Given, theme } from './frames';

interface Props {
  panel: any;
  frames: DataFrame[];
  given: Given;
  width: number;
  height: number;
}

function range(given: Given): TimeRange {
  const from = dateTime(given.start);
  const to = dateTime(given.end);
  return { from, to, raw: { from, to } };
}

interface Mark {
  at: number;
  text: string;
  color: string;
}

export function marksOf(given: Given): Mark[] {
  return given.marks
    .flatMap(({ mark, series }) =>
      series.flatMap((one) =>
        beginnings(one.values!, given.step).map((at) => ({
          at,
          text: String(mark.titleFormat).replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => one.metric[name] ?? ''),
          color: theme.visualization.getColorByName(mark.iconColor),
        }))
      )
    )
    .sort((one, other) => one.at - other.at);
}

// Of each run of values without a gap.
function beginnings(values: Array<[number, string]>, step: number): number[] {
  const times = values.map(([at]) => at * 1000);
  return times.filter((at, i) => i === 0 || at - times[i - 1] > 1.5 * step);
}

function drawMarks(config: UPlotConfigBuilder, marks: Mark[]) {
  config.addHook('draw', (u: any) => {
    const { left, top, width, height } = u.bbox;
    const ctx: CanvasRenderingContext2D = u.ctx;
    ctx.save();
    for (const mark of marks) {
      const x = u.valToPos(mark.at, 'x', true);
      if (x < left || x > left + width) {
        continue;
      }
      ctx.strokeStyle = ctx.fillStyle = mark.color;
      ctx.lineWidth = 1.5;
      ctx.setLineDash([6, 4]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x - 5, top + height + 6);
      ctx.lineTo(x + 5, top + height + 6);
      ctx.lineTo(x, top + height);
      ctx.fill();
    }
    ctx.restore();
  });
}

function Lines({ panel, frames, given, width, height }: Props) {
  return (
    <TimeSeries
      frames={frames}
      structureRev={1}
      timeRange={range(given)}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
    >
      {(config: UPlotConfigBuilder) => {
        drawMarks(config, marksOf(given));
        config.setPadding([null, 18, null, null]); // half of the last time's label
        return null;
      }}
    </TimeSeries>
  );
}

function displays({ panel, frames }: Props): FieldDisplay[] {
  return getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text: string) => text,
    theme,
    timeZone: 'utc',
  });
}

function Numbers(props: Props) {
  const { panel, width, height } = props;
  const named = panel.options.textMode === 'name' && props.frames.length;
  const values = displays(props).map((value) => {
    const { text, title } = value.display;
    return { ...value, display: { ...value.display, text: named ? title ?? '' : text, suffix: named ? '' : value.display.suffix, title: undefined } };
  });
  return (
    <VizRepeater
      getValues={() => values}
      getAlignmentFactors={getDisplayValueAlignmentFactors as any}
      renderValue={({ value, width, height, alignmentFactors }: any) => (
        <BigValue
          value={value.display}
          width={width}
          height={height}
          theme={theme}
          colorMode={panel.options.colorMode}
          graphMode={'none' as any}
          textMode={'value' as any}
          alignmentFactors={alignmentFactors}
        />
      )}
      source={props.frames}
      width={width}
      height={height}
      renderCounter={0}
      orientation={VizOrientation.Auto}
    />
  );
}

function Bars(props: Props) {
  const { panel, width, height } = props;
  const values = displays(props);
  return (
    <VizRepeater
      getValues={() => values}
      getAlignmentFactors={getDisplayValueAlignmentFactors as any}
      renderValue={({ value, width, height, alignmentFactors, orientation }: any) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 1)}
          width={width}
          height={height}
          theme={theme}
          orientation={orientation}
          displayMode={panel.options.displayMode}
          namePlacement={panel.options.namePlacement}
          itemSpacing={8}
          text={panel.options.text}
          alignmentFactors={alignmentFactors}
          showUnfilled
          isOverflow={false}
        />
      )}
      source={props.frames}
      width={width}
      height={height}
      renderCounter={0}
      orientation={VizOrientation.Horizontal}
      itemSpacing={8}
      minVizHeight={16}
      maxVizHeight={72}
    />
  );
}

// The library's own table scrolls, and that part of it is not made for this bundle.
function Listing({ frames: [frame], width }: Props) {
  const cell = { padding: '6px 8px', textAlign: 'left' as const, borderBottom: `1px solid ${theme.colors.border.weak}` };
  const numbers = Array.from({ length: frame.length }, (_, i) => i);
  return (
    <table style={{ width, fontSize: 14, borderCollapse: 'collapse' }}>
      <thead>
        <tr>
          {frame.fields.map((field) => (
            <th key={field.name} style={{ ...cell, color: theme.colors.primary.text }}>
              {getFieldDisplayName(field, frame)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {numbers.map((i) => (
          <tr key={i}>
            {frame.fields.map((field) => {
              const shown = field.display!(field.values[i]);
              const color = field.config.custom?.cellOptions?.type === 'color-text' ? shown.color : undefined;
              return (
                <td key={field.name} style={{ ...cell, color }}>
                  {formattedValueToString(shown)}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Nothing() {
  return <div style={{ padding: 16, color: theme.colors.text.secondary, fontSize: 18 }}>none</div>;
}

interface Span {
  from: number;
  to: number;
  value: number;
}

function spans(frame: DataFrame): Span[] {
  const [time, value] = frame.fields;
  const found: Span[] = [];
  for (let i = 0; i < frame.length; i++) {
    const v = value.values[i];
    const last = found[found.length - 1];
    const at = time.values[i];
    const next = i + 1 < frame.length ? time.values[i + 1] : at;
    if (v === null || v === undefined) {
      continue;
    }
    if (last && last.value === v && last.to === at) {
      last.to = next;
    } else {
      found.push({ from: at, to: next, value: v });
    }
  }
  return found;
}

function States({ frames, given, width, height }: Props) {
  const axis = 24;
  const left = 8 + Math.max(...frames.map((frame) => 7.2 * (frame.name ?? '').length), 40);
  const one = (height - axis) / Math.max(frames.length, 1);
  const x = (at: number) => left + ((at - given.start) / (given.end - given.start)) * (width - left - 12);
  const [lasts, count] = [given.end - given.start, Math.max(1, Math.floor((width - left) / 90))];
  const ticks = Array.from({ length: count }, (_, i) => given.start + (lasts * (i + 0.5)) / count);
  const format = lasts < 15 * 60 * 1000 ? 'HH:mm:ss' : 'HH:mm';
  return (
    <svg width={width} height={height} style={{ fontFamily: theme.typography.fontFamily, fontSize: 12 }}>
      {frames.map((frame, index) => (
        <g key={index} transform={`translate(0 ${index * one})`}>
          <text x={left - 8} y={one / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>
            {frame.name}
          </text>
          {spans(frame).map((span, i) => {
            const shown = frame.fields[1].display!(span.value);
            const wide = x(span.to) - x(span.from);
            return (
              <g key={i}>
                <rect
                  x={x(span.from)}
                  y={one * 0.1}
                  width={Math.max(wide, 1)}
                  height={one * 0.8}
                  fill={shown.color}
                  fillOpacity={0.75}
                />
                {wide > 7 * shown.text.length && (
                  <text x={x(span.from) + 5} y={one / 2 + 4} fill={theme.colors.getContrastText(shown.color!)}>
                    {shown.text}
                  </text>
                )}
              </g>
            );
          })}
        </g>
      ))}
      {ticks.map((at) => (
        <text key={at} x={x(at)} y={height - 6} textAnchor="middle" fill={theme.colors.text.secondary}>
          {dateTime(at).utc().format(format)}
        </text>
      ))}
    </svg>
  );
}

const KINDS: Record<string, (props: Props) => JSX.Element> = {
  timeseries: Lines,
  stat: Numbers,
  bargauge: Bars,
  table: Listing,
  'state-timeline': States,
};

export function Drawn(props: Props) {
  const Kind = KINDS[props.panel.type];
  if (!props.frames.length && props.panel.type !== 'stat') {
    return <Nothing />;
  }
  return <Kind {...props} />;
}
