//! Random programs against a sequential model: whatever is submitted, cancelled and waited for, the sums agree.

use proptest::prelude::*;
use raddle::{ReturnWhen, TaskError, ThreadPoolExecutor, wait};

#[derive(Clone, Debug)]
enum Step {
    Submit(u32),
    Panic,
    Cancel(usize),
    Map(u32),
    WaitAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..1000_u32).prop_map(Step::Submit),
        1 => Just(Step::Panic),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => (0..50_u32).prop_map(Step::Map),
        1 => Just(Step::WaitAll),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_task_has_its_own_outcome(steps in steps(), workers in 1..5_usize) {
        let pool = ThreadPoolExecutor::new(workers);
        let mut futures = Vec::new();
        let mut expected: Vec<Result<u32, ()>> = Vec::new();
        let mut mapped = 0;
        for step in steps {
            match step {
                Step::Submit(n) => {
                    futures.push(pool.submit(move || n));
                    expected.push(Ok(n));
                }
                Step::Panic => {
                    // A payload that the panic hook does not print.
                    futures.push(pool.submit(|| -> u32 { std::panic::resume_unwind(Box::new("planned")) }));
                    expected.push(Err(()));
                }
                Step::Cancel(at) if !futures.is_empty() => drop(futures[at % futures.len()].cancel()),
                Step::Cancel(_) => {}
                Step::Map(n) => {
                    mapped += u64::from(n);
                    let sum: u32 = pool.map(0..n, |x| x).map(|x| x.expect("it returns")).sum();
                    prop_assert_eq!(sum, (0..n).sum::<u32>());
                }
                Step::WaitAll => {
                    prop_assert!(wait(&futures, ReturnWhen::AllCompleted, None).into_iter().all(|done| done));
                }
            }
        }
        let submitted = futures.len() as u64 + mapped;
        for (future, expected) in futures.into_iter().zip(expected) {
            match future.result() {
                Ok(n) => prop_assert_eq!(expected, Ok(n)),
                Err(TaskError::Panicked(message)) => prop_assert_eq!((message.as_str(), expected), ("planned", Err(()))),
                Err(error) => prop_assert_eq!(error, TaskError::Cancelled),
            }
        }
        pool.shutdown(true);
        let figures = pool.statistics();
        prop_assert_eq!(figures.submitted, submitted);
        prop_assert_eq!(figures.done + figures.failed + figures.cancelled, submitted);
    }
}
