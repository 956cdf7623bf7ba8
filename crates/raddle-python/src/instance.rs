//! Objects of plain classes as bytes: the class by its name, then its attributes (submit -> TRANSPORT -> worker -> result).
//!
//! A class is plain if pickling an instance takes its `__dict__` and nothing else, and rebuilding it calls `object.__new__`:
//! most dataclasses are. Their pickles cost several times as much. Invariant: what arrives is what a pickle would have made;
//! where that is not certain, or an attribute is no plain value, a pickle is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::codec::{Pickling, plain};
use crate::decode::Unreadable;
use crate::layout::{self, Damaged, Object};
use crate::pickling::type_version;

/// How many classes, or states of classes, are remembered: a program that makes classes without end begins anew.
const MOST_REMEMBERED: usize = 1024;

/// Where another process finds a class.
struct ClassName {
    module: Py<PyString>,
    name: Py<PyString>,
    /// Both, as they are sent.
    sent: String,
}

impl ClassName {
    fn new(py: Python<'_>, module: &str, name: &str) -> Self {
        let [module_text, name_text] = [module, name].map(|text| PyString::intern(py, text).unbind());
        Self { module: module_text, name: name_text, sent: format!("{module}:{name}") }
    }
}

/// What is kept under keys, so many at the most.
struct Remembered<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: std::hash::Hash + Eq, V: Clone> Remembered<K, V> {
    fn get<Q: std::hash::Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: K, value: V) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(key, value);
    }
}

/// What has been found out about classes.
#[derive(Default)]
pub(crate) struct PlainClasses {
    /// Which are plain, by their version, which no other class, and no other state of a class, ever has.
    plain: Remembered<u32, Option<Arc<ClassName>>>,
    /// The names that have come from the other process.
    named: Remembered<Box<str>, Arc<ClassName>>,
}

impl Pickling {
    /// Appends an object of a plain class; `false`: it has to be pickled, and nothing is promised of `out`.
    pub(crate) fn push_instance(&self, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<bool> {
        let py = value.py();
        let class = value.get_type();
        let Some(name) = self.plain_name(&class)? else { return Ok(false) };
        if self.reducers.has_own(&class)? || !self.is_at(&class, &name.module, &name.name) {
            return Ok(false);
        }
        let attributes = value.getattr(intern!(py, "__dict__"))?;
        let Ok(attributes) = attributes.cast_exact::<PyDict>() else { return Ok(false) };
        let Ok(count) = u8::try_from(attributes.len()) else { return Ok(false) };
        layout::push_object(out, &name.sent, count)?;
        for (key, value) in attributes.iter() {
            let Some(key) = attribute_name(&key) else { return Ok(false) };
            let Some(value) = plain(&value, self.apart.most_within()) else { return Ok(false) };
            layout::push_attribute(out, key, value)?;
        }
        Ok(true)
    }

    /// Where another process finds the class, if it is plain.
    fn plain_name(&self, class: &Bound<'_, PyType>) -> PyResult<Option<Arc<ClassName>>> {
        let version = type_version(class);
        match self.plain_classes.plain.get(&version) {
            Some(known) if version != 0 => Ok(known),
            _ => self.find_plain_name(class),
        }
    }

    fn find_plain_name(&self, class: &Bound<'_, PyType>) -> PyResult<Option<Arc<ClassName>>> {
        let py = class.py();
        // It gets a version by being asked for an attribute.
        class.getattr(intern!(py, "__reduce_ex__"))?;
        let version = type_version(class);
        if version == 0 {
            return Ok(None);
        }
        let found: Option<(String, String)> =
            self.module.bind(py).call_method1(intern!(py, "name_if_plain"), (class,))?.extract()?;
        let name = match found {
            Some((module, name)) if !self.by_value || self.is_importable_module(py, &module)? => {
                Some(Arc::new(ClassName::new(py, &module, &name)))
            }
            _ => None,
        };
        // Somebody may have changed it meanwhile.
        if type_version(class) != version {
            return Ok(None);
        }
        self.plain_classes.plain.put(version, name.clone());
        Ok(name)
    }

    /// Makes an object again, as unpickling does.
    pub(crate) fn load_instance<'py>(
        &self,
        py: Python<'py>,
        Object { class, attributes }: Object<'_>,
    ) -> Result<Bound<'py, PyAny>, Unreadable> {
        let class = self.find_class(py, class)?;
        let (instance, set_state) = self.make(&class)?;
        let state = match &set_state {
            Some(_) => PyDict::new(py).into_any(),
            None => instance.getattr(intern!(py, "__dict__"))?,
        };
        let state = state.cast::<PyDict>()?;
        for (key, value) in attributes {
            state.set_item(PyString::intern(py, key), self.load_value(py, value)?)?;
        }
        if let Some(set_state) = set_state {
            set_state.call1((state,))?;
        }
        Ok(instance)
    }

    /// A new instance, and what is to be called with its state: the class need not be plain here.
    fn make<'py>(&self, class: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let py = class.py();
        if let Ok(class) = class.cast::<PyType>()
            && self.plain_name(class)?.is_some()
        {
            return Ok((new_of_plain(class)?, None));
        }
        let instance = class.call_method1(intern!(py, "__new__"), (class,))?;
        let set_state = instance.getattr_opt(intern!(py, "__setstate__"))?;
        Ok((instance, set_state))
    }

    fn find_class<'py>(&self, py: Python<'py>, sent: &str) -> Result<Bound<'py, PyAny>, Unreadable> {
        let name = match self.plain_classes.named.get(sent) {
            Some(name) => name,
            None => {
                let (module, name) = sent.split_once(':').ok_or(Damaged { what: "a class in it has no module" })?;
                let name = Arc::new(ClassName::new(py, module, name));
                self.plain_classes.named.put(sent.into(), Arc::clone(&name));
                name
            }
        };
        if let Some(class) = self.find_loaded(py, &name.module, &name.name)? {
            return Ok(class);
        }
        // An error is that of the import, or that of the attribute.
        Ok(py.import(&name.module)?.getattr(&name.name)?)
    }
}

/// A new instance of a plain class.
fn new_of_plain<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: the interpreter is held, and the type is `object` itself, which is never changed.
    let new = unsafe { ffi::PyBaseObject_Type.tp_new }.expect("objects can be made");
    // SAFETY: `class` is a subclass of `object` with the layout of a Python class without slots, for it is plain, so `object`
    // may make its instances; the arguments are a tuple and no keywords.
    let made = unsafe { new(class.as_type_ptr(), PyTuple::empty(py).as_ptr(), std::ptr::null_mut()) };
    // SAFETY: the call gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}

/// The name of an attribute that says nothing of how its object is pickled.
fn attribute_name<'a>(key: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    key.cast_exact::<PyString>().ok()?.to_str().ok().filter(|key| !key.starts_with("__"))
}

/// What is registered for classes that are pickled in their own way.
pub(crate) struct Reducers {
    /// `copyreg.dispatch_table`.
    registered: Py<PyDict>,
    /// The table of `multiprocessing`, when it has been loaded.
    extra: pyo3::sync::PyOnceLock<Py<PyDict>>,
    /// How many classes were in that when it was looked, and the modules that they are of.
    seen: Mutex<(usize, Arc<[String]>)>,
    /// `raddle._pickling`.
    module: Py<PyModule>,
}

impl Reducers {
    pub(crate) fn new(py: Python<'_>, module: &Py<PyModule>) -> PyResult<Self> {
        Ok(Self {
            registered: py.import("copyreg")?.getattr("dispatch_table")?.cast_into::<PyDict>()?.unbind(),
            extra: pyo3::sync::PyOnceLock::new(),
            seen: Mutex::new((0, Arc::new([]))),
            module: module.clone_ref(py),
        })
    }

    /// The table of `multiprocessing`, if the program has loaded it.
    fn extra<'py>(&self, py: Python<'py>) -> PyResult<Option<&Bound<'py, PyDict>>> {
        if self.extra.get(py).is_none() {
            let found = self.module.bind(py).call_method0(intern!(py, "extra_reducers"))?;
            let Ok(found) = found.cast_into::<PyDict>() else { return Ok(None) };
            let _ = self.extra.set(py, found.unbind());
        }
        Ok(self.extra.get(py).map(|table| table.bind(py)))
    }

    /// Whether instances of just this class are pickled in a way of their own.
    fn has_own(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        if self.registered.bind(py).contains(class)? {
            return Ok(true);
        }
        self.extra(py)?.map_or(Ok(false), |extra| extra.contains(class))
    }

    /// Whether `multiprocessing` has its own way for some class of the modules that are named.
    pub(crate) fn has_some_of(&self, py: Python<'_>, named: &[(&str, &str)]) -> PyResult<bool> {
        let Some(extra) = self.extra(py)? else { return Ok(false) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen.0 != extra.len() {
            let modules: Vec<String> =
                self.module.bind(py).call_method1(intern!(py, "modules_with_reducers"), (extra,))?.extract()?;
            seen = (extra.len(), modules.into());
            seen.clone_into(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(named.iter().any(|(module, _)| seen.1.iter().any(|other| other == module)))
    }
}
