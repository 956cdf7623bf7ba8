//! `raddle._native`: the binding. It converts, releases the interpreter, and maps errors; the engine decides.

mod apart;
mod batch;
mod choice;
mod codec;
mod codec_class;
mod counter;
mod decode;
mod draft_buffer;
mod enter;
mod executor;
mod fetch;
mod fetch_download;
mod fetch_options;
mod fetch_request;
mod fetch_response;
mod fetch_stream;
mod future;
mod gate;
mod gil_state;
mod group;
mod host;
mod instance;
mod job;
mod launch;
mod layout;
mod lent_texts;
mod locks;
mod map_loop;
mod named_globals;
mod names;
mod no_memory;
mod numpy_memory;
mod pickling;
mod placing;
mod process;
mod process_map;
mod segment_buffer;
mod serve;
mod share;
mod site;
mod texts;
mod timeline;
mod worker_side;

/// The engine's Python face; its public names are those of the package `raddle`.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::batch::MapIterator;
    #[pymodule_export]
    use crate::choice::{Choice, duration_text, thread_delay};
    #[pymodule_export]
    use crate::codec_class::Codec;
    #[pymodule_export]
    use crate::counter::Counter;
    #[pymodule_export]
    use crate::draft_buffer::{DraftBuffer, lies_in_arena};
    #[pymodule_export]
    use crate::executor::{PoolHandle, ThreadPool, View, live_pools, note_exit};
    #[pymodule_export]
    use crate::fetch::{fetch, get};
    #[pymodule_export]
    use crate::fetch_download::{check_checksum, check_name, download};
    #[pymodule_export]
    use crate::fetch_options::FetchOptions;
    #[pymodule_export]
    use crate::fetch_response::FetchResponse;
    #[pymodule_export]
    use crate::fetch_stream::FetchStream;
    #[pymodule_export]
    use crate::future::NativeFuture;
    #[pymodule_export]
    use crate::group::{CompletedIterator, as_completed, wait};
    #[pymodule_export]
    use crate::host::ThreadBodyEntry;
    #[pymodule_export]
    use crate::launch::{
        die_with_parent, duplicate, end_with, memory_file, open_channel, open_process, pickle, receive_message,
        send_message, signal_process, wait_readable,
    };
    #[pymodule_export]
    use crate::lent_texts::lend_texts;
    #[pymodule_export]
    use crate::locks::{Lock, RLock};
    #[pymodule_export]
    use crate::map_loop::MapLoop;
    #[pymodule_export]
    use crate::names::{bind, bind_processes};
    #[pymodule_export]
    use crate::no_memory::no_memory_text;
    #[pymodule_export]
    use crate::numpy_memory::compute_in_arena;
    #[pymodule_export]
    use crate::pickling::{named_globals_of, pickle_once, type_version};
    #[pymodule_export]
    use crate::process::{ProcessPoolHandle, ProcessView, PyProcessPool, live_process_pools, note_levels};
    #[pymodule_export]
    use crate::process_map::ProcessMapIterator;
    #[pymodule_export]
    use crate::segment_buffer::{arena_usage, limit_arena, note_forked, pin_views};
    #[pymodule_export]
    use crate::serve::{serve, tell};
    #[pymodule_export]
    use crate::share::{SharedParts, open_shared};
    #[pymodule_export]
    use crate::texts::{pack_texts, same_objects, unpack_texts};
    #[pymodule_export]
    use crate::timeline::Recording;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
