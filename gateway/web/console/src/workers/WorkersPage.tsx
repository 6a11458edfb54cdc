import {
  type DarkroomError,
  queryKeys,
  type Task,
  toDarkroomError,
  useDarkroom,
  useExplainTask,
  useTask,
  useWorkers,
  type WorkerStatus,
} from '@darkroom/client';
import { skipToken, useQuery, useQueryClient } from '@tanstack/react-query';
import { Cpu, Skull, X } from 'lucide-react';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { ago, duration, useNow } from '../lib/time';
import { bytes, count, kindOf, object, text, titleOf } from '../lib/words';
import { useAttempts, useProjectTasks } from '../queue/data';
import { leaseEnd } from '../queue/waiting';
import { Newcomer } from '../ui/Newcomer';
import { Card, Column, PageHead, Section } from '../ui/Page';
import { Button, Chip, Code, classes, Failure, Progress, Skeleton, type Tone } from '../ui/ui';
import { useDevInfo, useKillWorker } from './dev';
import { type Process, stateOf } from './state';
import { type Killed, type Tally, takeover } from './takeover';
import css from './Workers.module.css';

const killedKey = ['killed-workers'];

/** Who works, with what, on what; and in dev mode a way to see what happens when one dies. */
export function WorkersPage() {
  const { project } = useConsole();
  const workers = useWorkers();
  const { tasks } = useProjectTasks(project.id);
  const { data: info, dataUpdatedAt: seenAt } = useDevInfo({ watch: true });
  const processOf = (id: string): Process | undefined => {
    const known = info?.workers.find((w) => w.id === id);
    return known && { alive: known.alive, seenAt };
  };
  const cache = useQueryClient();
  const killed = useQuery<Killed[]>({ queryKey: killedKey, queryFn: skipToken, gcTime: Number.POSITIVE_INFINITY }).data ?? [];
  const remember = (k: Killed) =>
    cache.setQueryData<Killed[]>(killedKey, (all = []) => [k, ...all.filter((other) => other.workerId !== k.workerId)]);
  const forget = (k: Killed) => cache.setQueryData<Killed[]>(killedKey, (all = []) => all.filter((other) => other !== k));
  // By name, so that a worker stays where it is when it dies.
  const inOrder = [...(workers.data ?? [])].sort((a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }));
  const alive = workers.data?.filter((worker) => worker.alive).length ?? 0;

  return (
    <Column testId="workers">
      <PageHead title="Workers">{workers.data ? <p>{count(alive, 'worker')} alive</p> : null}</PageHead>
      {killed.map((k) => (
        <Takeovers key={k.at} killed={k} close={() => forget(k)} />
      ))}
      {workers.isError && !workers.data ? <Failure what="The workers" error={workers.error} retry={() => void workers.refetch()} /> : null}
      {workers.isPending ? <Skeleton className={css.loading} /> : null}
      {workers.data?.length === 0 ? (
        <Newcomer icon={<Cpu />} title="No worker has come yet" testId="workers-empty">
          Tasks wait until one does. Start workerd beside a GPU, or make a token and point Headless-Wan2GP here.
        </Newcomer>
      ) : null}
      <ul className={css.workers}>
        {inOrder.map((worker) => (
          <Worker key={worker.id} worker={worker} tasks={tasks} process={processOf(worker.id)} onKilled={remember} />
        ))}
      </ul>
      {info?.psql ? (
        <Section title="Be a worker yourself">
          <p className={css.note}>
            One line for a terminal: you claim the task that waits for a person, and complete it. Watch it in the queue meanwhile.
          </p>
          <Code text={info.psql} label="Copy the psql line" />
        </Section>
      ) : null}
    </Column>
  );
}

const states: Record<string, Tone> = { up: 'good', down: 'bad', probing: 'wait' };

interface WorkerProps {
  worker: WorkerStatus;
  tasks: readonly Task[];
  /** Its process, where that is known: in dev mode. */
  process: Process | undefined;
  onKilled: (killed: Killed) => void;
}

function Worker({ worker, tasks, process, onKilled }: WorkerProps) {
  const state = stateOf(worker, process);
  const now = useNow();
  const kill = useKillWorker();
  const cache = useQueryClient();
  const refused = useErrorToast();
  const engines = Array.isArray(worker.info.engines) ? worker.info.engines.map(object) : [];
  const held = tasks.filter(
    (task) => task.status === 'In Progress' && task.worker_id === worker.id && task.task_type !== 'travel_orchestrator',
  );

  // What realtime has told since the workers were asked counts.
  const running = worker.running.filter(({ task_id, attempt }) => {
    const task = tasks.find((t) => t.id === task_id);
    return !task || (task.status === 'In Progress' && task.attempt === attempt);
  });

  const end = () => {
    const at = Date.now();
    const was = held.map((task) => ({ taskId: task.id, attempt: task.attempt }));
    kill.mutate(worker.id, {
      onSuccess: ({ pid }) => {
        onKilled({ workerId: worker.id, pid, at, held: was });
        void cache.invalidateQueries({ queryKey: queryKeys.workers() });
        void cache.invalidateQueries({ queryKey: ['dev-info'] });
      },
      onError: refused,
    });
  };

  return (
    <li>
      <Card
        className={classes(css.worker, state !== 'alive' && css.silent)}
        data-testid="worker"
        data-worker={worker.id}
        data-alive={worker.alive}
      >
        <header className={css.head}>
          <h2>{worker.id}</h2>
          <Chip tone={state === 'alive' ? 'good' : 'bad'}>{state}</Chip>
          <span className={css.beat} data-testid="heartbeat">
            heard from {ago(worker.last_heartbeat, now)}
          </span>
          {process && state !== 'gone' ? (
            <Button small look="danger" busy={kill.isPending} onClick={end} data-testid="kill">
              <Skull aria-hidden="true" /> Kill this worker
            </Button>
          ) : null}
        </header>
        {engines.length > 0 ? (
          <ul className={css.engines}>
            {engines.map((engine) => (
              <li key={text(engine.name)} className={css.engine} data-testid="engine" data-state={text(engine.state)}>
                <div className={css.engineHead}>
                  <strong>{text(engine.name)}</strong>
                  <Chip tone={states[text(engine.state)] ?? 'plain'}>{text(engine.state) || 'unknown'}</Chip>
                  <span>{load(Number(engine.busy ?? 0), Number(engine.slots ?? 1))}</span>
                </div>
                <p className={css.facts}>
                  {[text(engine.device), bytes(Number(engine.memory_bytes ?? 0)), list(engine.models), list(engine.task_types, kindOf)]
                    .filter(Boolean)
                    .join(', ')}
                </p>
                {text(engine.reason) ? <p className={css.reason}>{text(engine.reason)}</p> : null}
              </li>
            ))}
          </ul>
        ) : (
          <p className={css.facts}>{worker.task_types?.map(kindOf).join(', ') || 'It has said nothing of itself.'}</p>
        )}
        {running.length > 0 ? (
          <ul className={css.running}>
            {running.map((running) => (
              <Current
                key={running.task_id}
                id={running.task_id}
                attempt={running.attempt}
                claimedAt={running.claimed_at}
                known={tasks}
                now={now}
              />
            ))}
          </ul>
        ) : null}
      </Card>
    </li>
  );
}

function load(busy: number, slots: number): string {
  if (slots === 1) return busy > 0 ? 'busy' : 'idle';
  return `${busy} of ${slots} slots busy`;
}

function list(value: unknown, say: (word: string) => string = (word) => word): string {
  return Array.isArray(value) ? value.map((v) => say(text(v))).join(', ') : '';
}

function Current({
  id,
  attempt,
  claimedAt,
  known,
  now,
}: {
  id: string;
  attempt: number;
  claimedAt: string;
  known: readonly Task[];
  now: number;
}) {
  const { href } = useConsole();
  const task = known.find((t) => t.id === id);
  const percent = task?.progress?.percent;
  return (
    <li data-testid="current-task" data-task={id} data-attempt={attempt}>
      <div>
        <Link href={href({ page: 'queue', taskId: id })}>{task ? titleOf(task) : 'A task'}</Link>
        <span>
          attempt {attempt}, {duration(now - Date.parse(claimedAt))}
        </span>
      </div>
      <Progress percent={percent} label="Progress" />
    </li>
  );
}

/** What happens after the kill of a worker, for each task that it held. */
function Takeovers({ killed, close }: { killed: Killed; close: () => void }) {
  return (
    <Card className={css.takeover} data-testid="takeover" data-worker={killed.workerId}>
      <header className={css.head}>
        <h2>{killed.workerId} was killed</h2>
        <Button small icon look="quiet" aria-label="Dismiss" onClick={close}>
          <X aria-hidden="true" />
        </Button>
      </header>
      {killed.held.length === 0 ? (
        <p className={css.note}>It held nothing of this project. Kill one while it works, to see another take over.</p>
      ) : null}
      {killed.held.map((held) => (
        <Takeover key={held.taskId} killed={killed} taskId={held.taskId} attempt={held.attempt} />
      ))}
    </Card>
  );
}

function Takeover({ killed, taskId, attempt }: { killed: Killed; taskId: string; attempt: number }) {
  const { href } = useConsole();
  const now = useNow();
  const task = useTask(taskId).data;
  const attempts = useAttempts(task).data ?? [];
  const silent = task?.status === 'In Progress' && task.attempt === attempt;
  const explanation = useExplainTask(taskId, { enabled: silent }).data;
  const tally = useTally(task);
  if (!task) return null;
  const stages = takeover({ killed, attempt, task, attempts, lease: silent ? leaseEnd(explanation, task) : null, tally, now });
  return (
    <div>
      <Link href={href({ page: 'queue', taskId })} className={css.about}>
        {titleOf(task)}
      </Link>
      <ol className={css.stages} aria-live="polite">
        {stages.map((stage) => (
          <li key={stage.key} className={css[stage.state]} data-stage={stage.key} data-state={stage.state}>
            {stage.text}
          </li>
        ))}
      </ol>
    </div>
  );
}

/** Counts what a task, or the tree that it belongs to, has made and cost. */
function useTally(task: Task | null | undefined): Tally | undefined {
  const client = useDarkroom();
  const root = task?.orchestrator_task_id ?? task?.id;
  return useQuery<Tally, DarkroomError>({
    queryKey: ['takeover-tally', root],
    queryFn: async () => {
      const family = await client.from('tasks').select('id, status').or(`id.eq.${root},orchestrator_task_id.eq.${root}`);
      if (family.error) throw toDarkroomError(family.error, family.status);
      const ids = family.data.map((member) => member.id as string);
      const [made, paid] = await Promise.all([
        client.from('generations').select('id').in('source_task_id', ids),
        client.from('credit_ledger').select('amount').eq('kind', 'settle').in('task_id', ids),
      ]);
      if (made.error) throw toDarkroomError(made.error, made.status);
      if (paid.error) throw toDarkroomError(paid.error, paid.status);
      return {
        complete: family.data.find((member) => member.id === root)?.status === 'Complete',
        generations: made.data.length,
        charges: paid.data.length,
        charged: paid.data.reduce((sum, entry) => sum + Number(entry.amount), 0),
      };
    },
    enabled: Boolean(root) && task?.status === 'Complete',
    refetchInterval: (query) => (query.state.data?.complete ? false : 2000),
  }).data;
}
