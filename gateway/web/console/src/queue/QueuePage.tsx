import { type Task, useCancelTask } from '@darkroom/client';
import { CircleSlash, Clock, ListVideo, X } from 'lucide-react';
import { type ReactNode, useMemo, useState } from 'react';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { ago, useNow } from '../lib/time';
import { count, inCredits, kindOf, titleOf } from '../lib/words';
import { Newcomer } from '../ui/Newcomer';
import { Column, PageHead, Section } from '../ui/Page';
import { Preview } from '../ui/Preview';
import { Button, Chip, classes, Failure, Progress, Skeleton } from '../ui/ui';
import { limits, useProjectTasks } from './data';
import { Holder, Phase, Retry, Why } from './parts';
import css from './Queue.module.css';
import { TaskDialog } from './TaskDialog';
import { errorOf, percentOf, previewOf, type Tree, treesOf } from './tree';

const filters = [
  ['all', 'All'],
  ['In Progress', 'Running'],
  ['Queued', 'Waiting'],
  ['Complete', 'Done'],
  ['Failed', 'Failed'],
  ['Cancelled', 'Cancelled'],
] as const;

type Filter = (typeof filters)[number][0];

const shownAtFirst = 12;

/** What is being made, what waits and why, and how it ended. */
export function QueuePage() {
  const { project, place, go } = useConsole();
  const { tasks, pending, error, refetch } = useProjectTasks(project.id);
  const [filter, setFilter] = useState<Filter>('all');
  const trees = useMemo(() => treesOf(tasks), [tasks]);
  const of = (status: Task['status']) => trees.filter((tree) => tree.task.status === status);
  const counts: Record<Filter, number> = {
    all: trees.length,
    'In Progress': of('In Progress').length,
    Queued: of('Queued').length,
    Complete: of('Complete').length,
    Failed: of('Failed').length,
    Cancelled: of('Cancelled').length,
  };
  const waiting = [...of('Queued')].reverse(); // the next one first
  const ended = trees.filter(({ task }) => task.status !== 'In Progress' && task.status !== 'Queued');
  const shows = (status: Task['status']) => filter === 'all' || filter === status;
  const openId = place.page === 'queue' ? place.taskId : undefined;

  return (
    <Column testId="queue">
      <PageHead title="Queue" />
      {error ? <Failure what="The queue" error={error} retry={refetch} /> : null}
      {pending ? <Loading /> : null}
      {!pending && trees.length === 0 && !error ? (
        <Newcomer icon={<ListVideo />} title="Nothing is being made" testId="queue-empty">
          What you create waits here until a worker is free, and shows how far it is.
        </Newcomer>
      ) : null}
      {trees.length > 0 ? (
        <div className={css.filters} role="toolbar" aria-label="Show">
          {filters.map(([key, name]) => (
            <button key={key} type="button" aria-pressed={filter === key} onClick={() => setFilter(key)} data-testid={`filter-${key}`}>
              {name} <span>{counts[key] + (key === 'all' && tasks.length >= limits.ended ? '+' : '')}</span>
            </button>
          ))}
        </div>
      ) : null}
      {shows('In Progress') && counts['In Progress'] > 0 ? (
        <Section title="Running" note={counts['In Progress']} testId="running">
          <ul className={css.list}>
            {of('In Progress').map((tree) => (
              <Running key={tree.task.id} tree={tree} />
            ))}
          </ul>
        </Section>
      ) : null}
      {shows('Queued') && waiting.length > 0 ? (
        <Section title="Waiting" note={waiting.length} testId="waiting">
          <Some items={waiting} show={(tree) => <Waiting key={tree.task.id} tree={tree} />} />
        </Section>
      ) : null}
      {filter !== 'In Progress' && filter !== 'Queued' && ended.some(({ task }) => shows(task.status)) ? (
        <Section title={filter === 'all' ? 'Ended' : (filters.find(([key]) => key === filter)?.[1] ?? '')} testId="ended">
          <Some items={ended.filter(({ task }) => shows(task.status))} show={(tree) => <Ended key={tree.task.id} tree={tree} />} />
        </Section>
      ) : null}
      {trees.length > 0 && filter !== 'all' && counts[filter] === 0 ? <p className={css.none}>None.</p> : null}
      {openId ? <TaskDialog id={openId} known={tasks} onClose={() => go({ page: 'queue' }, { replace: true })} /> : null}
    </Column>
  );
}

function Some({ items, show }: { items: Tree[]; show: (tree: Tree) => ReactNode }) {
  const [most, setMost] = useState(shownAtFirst);
  return (
    <>
      <ul className={css.list}>{items.slice(0, most).map(show)}</ul>
      {items.length > most ? (
        <Button look="quiet" className={css.more} onClick={() => setMost(most + 50)}>
          {count(items.length - most, 'more', 'more')}
        </Button>
      ) : null}
    </>
  );
}

function Loading() {
  return (
    <div className={css.list}>
      {[1, 2, 3].map((n) => (
        <Skeleton key={n} className={css.skeleton} />
      ))}
    </div>
  );
}

interface RowProps {
  tree: Tree;
  children: ReactNode;
  picture?: ReactNode;
  actions?: ReactNode;
  small?: boolean;
}

/** The frame of every row: a picture, the words, what can be done. */
function Row({ tree, children, picture, actions, small }: RowProps) {
  const { href } = useConsole();
  const { task } = tree;
  return (
    <li
      className={classes(css.row, small && css.ended)}
      data-testid="task"
      data-task={task.id}
      data-status={task.status}
      data-attempt={task.attempt}
      data-worker={task.worker_id ?? ''}
    >
      <div className={css.picture} aria-hidden="true">
        {picture}
      </div>
      <div className={css.words}>
        <div className={css.line}>
          <Link href={href({ page: 'queue', taskId: task.id })} className={css.title}>
            {titleOf(task)}
          </Link>
          <Chip>{kindOf(task.task_type)}</Chip>
        </div>
        {children}
      </div>
      {actions ? <div className={css.actions}>{actions}</div> : null}
    </li>
  );
}

function Cancel({ task }: { task: Task }) {
  const cancel = useCancelTask();
  const refused = useErrorToast();
  return (
    <Button
      small
      look="quiet"
      busy={cancel.isPending}
      onClick={() => cancel.mutate(task.id, { onError: refused })}
      aria-label={`Cancel ${titleOf(task)}`}
      data-testid="cancel"
    >
      <X aria-hidden="true" /> Cancel
    </Button>
  );
}

function Running({ tree }: { tree: Tree }) {
  const { task, children } = tree;
  const preview = previewOf(tree);
  const percent = percentOf(tree);
  return (
    <Row
      tree={tree}
      picture={
        <Preview src={preview} className={css.preview}>
          <span className={css.bath} />
        </Preview>
      }
      actions={<Cancel task={task} />}
    >
      <div className={css.progress}>
        <Progress percent={percent} label={`Progress of ${titleOf(task)}`} />
        <span data-testid="percent">{percent === undefined ? '' : `${Math.round(percent)} %`}</span>
      </div>
      <p className={css.sub}>
        <Phase tree={tree} />
        {children.length === 0 ? <Holder task={task} /> : <span>{partsOf(children)}</span>}
      </p>
      {children.length > 0 ? (
        <ol className={css.children}>
          {children
            .filter((child) => child.status === 'In Progress')
            .map((child) => (
              <li key={child.id} data-testid="child" data-task={child.id} data-attempt={child.attempt} data-worker={child.worker_id ?? ''}>
                <span>{titleOf(child)}</span>
                <Holder task={child} />
              </li>
            ))}
        </ol>
      ) : null}
    </Row>
  );
}

function partsOf(children: readonly Task[]): string {
  const done = children.filter((child) => child.status === 'Complete').length;
  return `${done} of ${children.length} parts done`;
}

function Waiting({ tree }: { tree: Tree }) {
  return (
    <Row tree={tree} picture={<Clock />} actions={<Cancel task={tree.task} />}>
      <Why task={tree.task} />
    </Row>
  );
}

function Ended({ tree }: { tree: Tree }) {
  const { task, children } = tree;
  const now = useNow(10_000);
  const picture = [task, ...[...children].reverse()].map((t) => t.thumbnail_url).find(Boolean);
  const tone = task.status === 'Complete' ? 'good' : task.status === 'Failed' ? 'bad' : 'plain';
  return (
    <Row
      small
      tree={tree}
      picture={picture ? <img src={picture} alt="" loading="lazy" /> : <CircleSlash />}
      actions={task.status === 'Complete' ? undefined : <Retry task={task} />}
    >
      {task.status === 'Failed' && errorOf(tree) ? (
        <p className={css.error} data-testid="error">
          {errorOf(tree)}
        </p>
      ) : null}
      <p className={css.sub}>
        <Chip tone={tone} dot>
          {task.status === 'Complete' ? 'Done' : task.status}
        </Chip>
        <span>
          {[
            ago(task.completed_at, now),
            task.attempt > 1 ? `${task.attempt} attempts` : '',
            task.status === 'Complete' ? inCredits(task.cost) : 'nothing charged',
          ]
            .filter(Boolean)
            .join(', ')}
        </span>
      </p>
    </Row>
  );
}
