import {
  cacheTimes,
  type DarkroomError,
  type LedgerEntry,
  queryKeys,
  type Task,
  toDarkroomError,
  useCancelTask,
  useDarkroom,
  useTask,
  useTaskGeneration,
} from '@darkroom/client';
import { useQuery } from '@tanstack/react-query';
import { Images, X } from 'lucide-react';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { useErrorToast } from '../app/toasts';
import { EntryList } from '../credits/Entries';
import { clockTime, dateTime, duration, useNow } from '../lib/time';
import { inCredits, kindOf, short, titleOf } from '../lib/words';
import { Preview } from '../ui/Preview';
import { Button, buttonClass, Chip, Code, CopyButton, classes, Dialog, Failure, Progress, Spinner, type Tone } from '../ui/ui';
import { story } from './attempts';
import { useAttempts } from './data';
import { Holder, Phase, Retry, Why } from './parts';
import css from './Queue.module.css';
import { errorOf, open, percentOf, previewOf } from './tree';

const tones: Record<Task['status'], Tone> = { Queued: 'wait', 'In Progress': 'live', Complete: 'good', Failed: 'bad', Cancelled: 'plain' };

/** All of one task: how it is, who tried it, what it cost, what it was asked. */
export function TaskDialog({ id, known, onClose }: { id: string; known: readonly Task[]; onClose: () => void }) {
  const { href } = useConsole();
  const single = useTask(id);
  const task = known.find((t) => t.id === id) ?? single.data;
  const children = known.filter((t) => t.orchestrator_task_id === id).sort((a, b) => a.job_no - b.job_no);
  const maker = children.find((child) => child.task_type === 'travel_stitch') ?? task;
  const generation = useTaskGeneration(maker?.status === 'Complete' ? maker.id : undefined).data;
  const cancel = useCancelTask();
  const refused = useErrorToast();

  return (
    <Dialog
      wide
      title={task ? titleOf(task) : 'Task'}
      onClose={onClose}
      testId="task-dialog"
      foot={
        task ? (
          <>
            {generation ? (
              <Link
                className={buttonClass({ look: 'primary' })}
                href={href({ page: 'gallery', generationId: generation.id })}
                data-testid="generation-link"
              >
                <Images aria-hidden="true" /> Show the result
              </Link>
            ) : null}
            {open(task) ? (
              <Button
                look="danger"
                busy={cancel.isPending}
                onClick={() => cancel.mutate(task.id, { onError: refused })}
                data-testid="cancel"
              >
                <X aria-hidden="true" /> Cancel
              </Button>
            ) : null}
            {task.status === 'Failed' || task.status === 'Cancelled' ? <Retry task={task} /> : null}
          </>
        ) : null
      }
    >
      {single.isError && !task ? <Failure what="The task" error={single.error} retry={() => void single.refetch()} /> : null}
      {single.isPending && !task ? <Spinner /> : null}
      {single.data === null && !task ? <p>There is no such task here.</p> : null}
      {task ? <All task={task} family={children} /> : null}
    </Dialog>
  );
}

function All({ task, family }: { task: Task; family: Task[] }) {
  const { href } = useConsole();
  const tree = { task, children: family };
  const percent = percentOf(tree);
  const preview = previewOf(tree);
  return (
    <div className={css.all}>
      <p className={css.sub}>
        <Chip tone={tones[task.status]} dot data-testid="status">
          {task.status}
        </Chip>
        <Chip>{kindOf(task.task_type)}</Chip>
        <span>
          {dateTime(task.created_at)}, {inCredits(task.cost)}
        </span>
        <CopyButton text={task.id} label="Copy the task's id">
          {short(task.id)}
        </CopyButton>
      </p>
      {task.status === 'In Progress' ? (
        <div className={css.now}>
          <Preview src={preview} className={css.preview} alt="Unfinished result" />
          <div>
            <div className={css.progress}>
              <Progress percent={percent} label="Progress" />
              <span>{percent === undefined ? '' : `${Math.round(percent)} %`}</span>
            </div>
            <p className={css.sub}>
              <Phase tree={tree} />
              {family.length === 0 ? <Holder task={task} /> : null}
            </p>
          </div>
        </div>
      ) : null}
      {task.status === 'Queued' ? <Why task={task} all /> : null}
      {errorOf(tree) && !open(task) ? (
        <p className={css.error} data-testid="error">
          {errorOf(tree)}
        </p>
      ) : null}
      <Attempts task={task} parts={family.length} />
      {family.length > 0 ? (
        <section>
          <h3>Parts</h3>
          <ol className={css.parts}>
            {family.map((child) => (
              <li key={child.id}>
                <Link href={href({ page: 'queue', taskId: child.id })}>{titleOf(child)}</Link>
                <span className={css.partSub}>{child.status === 'In Progress' ? <Holder task={child} /> : child.worker_id}</span>
                <Chip tone={tones[child.status]} dot>
                  {child.status}
                </Chip>
              </li>
            ))}
          </ol>
        </section>
      ) : null}
      <Ledger task={task} />
      <section>
        <h3>Params</h3>
        <Code text={JSON.stringify(task.params, null, 2)} label="Copy the params" />
      </section>
    </div>
  );
}

function Attempts({ task, parts }: { task: Task; parts: number }) {
  const now = useNow();
  const attempts = useAttempts(task);
  const steps = story(task, attempts.data ?? [], parts);
  if (steps.length === 0) return null;
  return (
    <section>
      <h3>Attempts</h3>
      <ol className={css.steps} data-testid="attempts">
        {steps.map((step) => (
          <li key={step.attempt} className={classes(css.step, css[step.tone])} data-attempt={step.attempt} data-worker={step.worker}>
            <p>
              <strong>Attempt {step.attempt}</strong> on <strong>{step.worker}</strong> {step.text}
            </p>
            <p className={css.stepSub}>
              {clockTime(step.from)}, {duration((step.to ? Date.parse(step.to) : now) - Date.parse(step.from))}
              {step.error ? `: ${step.error}` : ''}
            </p>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** What a task did to the account. */
function Ledger({ task }: { task: Task }) {
  const client = useDarkroom();
  const entries = useQuery<LedgerEntry[], DarkroomError>({
    queryKey: [...queryKeys.ledger(), 'task', task.id, task.status, task.attempt],
    queryFn: async () => {
      const { data, error, status } = await client.from('credit_ledger').select('*').eq('task_id', task.id).order('seq');
      if (error) throw toDarkroomError(error, status);
      return data as LedgerEntry[];
    },
    staleTime: cacheTimes.credits,
  });
  if (!entries.data?.length) return null;
  return (
    <section>
      <h3>Credits</h3>
      <EntryList entries={entries.data} own />
    </section>
  );
}
